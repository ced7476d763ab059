"""How many examples a property gets whose body takes long: a fifth of what the profile gives the others."""

from hypothesis import settings

few_examples = settings(max_examples=settings().max_examples // 5)
