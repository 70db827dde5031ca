package arflow
