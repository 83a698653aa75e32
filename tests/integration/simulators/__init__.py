"""The simulators over real sockets, as raw frames and known clients see them."""
