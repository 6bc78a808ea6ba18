"""The pages about rooms that only this server has: requests over HTTP, by tokens with `services`.

* ``routes`` finds the page of a path, and decides who may ask, how many requests wait, and which instance answers;
* ``page`` is the answer to a request;
* ``rooms`` disconnects clients, closes and opens rooms, and shows which are large or busy;
* ``versions`` lists, shows and restores versions.
"""
