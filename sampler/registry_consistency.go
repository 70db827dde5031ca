package sampler

// consistencySolvers jump to the data and back.
var consistencySolvers = []entry{}
