"""Read a specification, and list every question that it leaves open."""

from mlops_course import design

wish = """
name: returns desk
slos: fast enough
"""
try:
    design.parse_specification(wish)
except design.SpecificationError as error:
    missing = [line for line in error.defects if "is missing" in line]
    print(len(missing), "questions to ask, such as:", missing[0])
assert len(missing) > 10
