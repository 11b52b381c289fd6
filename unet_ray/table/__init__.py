"""The exactly-once table: plan -> parts -> seals -> manifest, on any store with create-only writes.

::

    <uri>/_PLAN.json                       what will be done, and by what: create-only
    <uri>/_plan/part-....parquet           its rows
    <uri>/data/<shard>/<attempt>-....parquet   immutable parts, each written once under a name of its own
    <uri>/_seals/<shard>.json              create-only: the parts that count for a shard, their sums
    <uri>/_MANIFEST.parquet                create-only: the parts of the whole table
    <uri>/_delta_log/0...0.json            the same list for Delta readers
    <uri>/_SUCCESS.json                    create-only, last: the publish point

Work may be done more than once; it is published once. Tasks write parts and return messages; the driver is
the only committer. Nothing is renamed, locked, timed or deleted on failure: a part without a seal does not
exist for a reader. Two drivers on one plan cooperate, because the first seal of a shard wins.

Nothing here knows Ray: ``produce`` in `commit.fill` is any iterable of messages.
"""
