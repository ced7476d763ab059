"""What every package stands on: whole files, locks, images, masks, processes. It knows no stage and no model."""
