"""What every room stands on: whole files, images, masks, bounded HTTP, processes. It knows no stage and no model."""
