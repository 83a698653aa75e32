"""The simulators without sockets."""
