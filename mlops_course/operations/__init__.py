"""Operations: what happens to a model after development.

`registry` keeps versions and who released them, `deployment` lets them answer, `delivery` says which checks a change
needs, `monitoring` watches the answers, and `retraining` says when to train again and on what. Each stands alone.
"""
