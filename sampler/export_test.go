package sampler

// Tableau shows what a Runge-Kutta method is made of.
func (s RungeKutta) Tableau() (c []float64, a [][]float64, b []float64) { return s.t.c, s.t.a, s.t.b }

// ThePair is Dormand and Prince's method with its error weights.
func ThePair() (s RungeKutta, e []float64) { return RungeKutta{&dormandPrince}, dormandPrince.e }
