"""How a network answers requests: its inference form, and the engine that runs it on a device.

form.py          the inference form of a network: the same weights, computed in fewer and larger steps, by
convolution.py   trunks of convolutions: batch norms folded, activations and sums fused
swin.py          Swin blocks: windows by one gather, shift mask and position bias added up ahead of time
hyper.py         the hyper network: all generators of one kind as one product
linear.py        other linear layers
quantised.py     any of these in 8-bit integers; quantise.py puts them into a network
selection.py     chooses the layers that compute in 8-bit integers
engine.py        batches on a device, at fixed shapes that give the same bits
captured.py      CUDA graphs of an engine
autotune.py      measures how many threads and items per batch are fastest on this CPU
processors.py    how many processors this process may use; needs no torch
forked.py        the guard against computing after a fork
allocator.py     settings of the C library's allocator; needs no torch
"""
