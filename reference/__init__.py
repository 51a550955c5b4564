"""The paper's Res-UNets: architecture, training recipe, data folders and drawn slices."""
