"""Damaged samples for everything that reads bytes from outside.

::

    samples  layouts            sound inputs: small ones, and what stock Xen and QEMU wrote
    noise                       changes of bytes and of sequences, whatever they mean
    pieces                      changes of a stream by its pieces, their framing kept right or not
    records  texts  wires       what the pieces are, and how each is edited
    targets  operations  moves  who reads, and what may come of it
    limits                      processor time and memory for one input
    engine                      one input: made of its number, given to its target, judged
    workers                     many inputs on all processors, each failure with its number

All of an input follows from its target's name and one number, its seed.
"""
