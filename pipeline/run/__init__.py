"""How a build runs and lies on disk: the contract of a stage, the run folder, plan, image store and workers."""
