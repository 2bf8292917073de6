"""What `benches/peers` and `benches/memory` are made of: running, the tools, comparing, tables."""
