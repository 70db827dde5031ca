package sampler

// rungeKuttaSolvers are Runge-Kutta methods on the flow's velocity.
var rungeKuttaSolvers = []entry{}
