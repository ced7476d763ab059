"""The four data stages, a generator each: requests, candidates, regions, gates."""
