"""`python -m mlops_course` is the command line."""

from mlops_course.cli import main

if __name__ == "__main__":
    main(prog_name="mlops-course")
