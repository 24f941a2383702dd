"""Papers as pure functions and Flax modules. A library: no flags, no printing, no paths of its own."""
