"""Memory: how much there is, what documents and output take of it, and how it is given back.

* ``available`` reads what the machine or the cgroup has;
* ``bounds`` derives ``MAX_MEMORY`` and the largest message from that;
* ``budget`` counts documents and unread output against ``MAX_MEMORY``;
* ``unread_output`` cuts the connections with most unread output where memory is short;
* ``allocator`` tunes glibc's allocator.
"""
