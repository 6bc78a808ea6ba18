"""Memory: how much there is, what documents and output take of it, and how it is given back.

* ``available`` reads what the machine or the cgroup has;
* ``budget`` counts documents and unread output against ``MAX_MEMORY``;
* ``unread_output`` cuts the connections with most unread output where memory is short;
* ``allocator`` tunes glibc's allocator.
"""
