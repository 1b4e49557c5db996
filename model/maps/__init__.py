"""Maps over a picture: where its quality is good or bad, where the stages of the network are active, and drawings."""
