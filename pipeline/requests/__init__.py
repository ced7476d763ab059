"""Where requests come from: request files, procedural scenes and instructions in words; and lines opened and scaled."""
