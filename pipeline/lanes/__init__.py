"""The device lane: model calls in processes of their own, one for each device, which CPU workers send images to."""
