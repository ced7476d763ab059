"""The training of `sam:tiny`: a small Sam of segment-anything's own classes, on scenes and on pasted objects."""
