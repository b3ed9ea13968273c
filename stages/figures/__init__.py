"""One figure a module, and the arrangement of the measured numbers that figures and tables share."""
