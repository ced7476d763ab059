"""Vision-language judges as rewards."""
