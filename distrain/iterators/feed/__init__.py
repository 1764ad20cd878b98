"""The feed: processes that read samples for a rank.

    feed         the rank's side: hands out work, puts minibatches together, looks after the feeders
    window       minibatches, their pieces, and who works on them
    samples      what is known of the samples: size, layout, time
    intake       answers with a payload               outcome     what a finished minibatch becomes
    supervisor   looks after the local feeders: deaths, hangs, poisonous samples
    crew         starts them, and sees when one dies
    nursery      the process that they are forked from
    feeder       the process that reads samples
    server       reading and writing the rows of a minibatch
    protocol     the messages
    remote_crew  the rank's side of feeders on other hosts: who may enter, who is lost        keys    of both sides
    remote_feeder  the process on another host            remote      `distrain feed`, which starts and replaces them
    layout       where columns lie in memory          parcels     examples of any shape as bytes
    arena        shared memory for minibatches        shipment    the dataset's way to the feeders
    statistics   numbers                              pages       memory that the rank shares with them

A minibatch is ordered with `Feed.submit` and fetched with `Feed.take`. It is cut into pieces; an order for a piece goes
to a feeder through ZeroMQ, the feeder writes the rows into the minibatch's slot in shared memory and says that it is
done, and the rank hands out arrays that are views of the slot. The slot is used again when they are gone.
"""
