"""The tiny policy: FLUX.2's own classes, small, pretrained here on plain scenes; its weights come with the product."""
