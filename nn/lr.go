package nn

import "math"

// LR is a learning rate by step, from 0 on.
type LR func(step int) float64

// Constant is the same rate always.
func Constant(lr float64) LR { return func(int) float64 { return lr } }

// Warmup rises linearly to the rate that next gives: step k < n has (k+1)/n of it.
func Warmup(n int, next LR) LR {
	return func(step int) float64 {
		if step < n {
			return next(step) * float64(step+1) / float64(n)
		}
		return next(step)
	}
}

// progress is how much of n steps is over, 0 to 1.
func progress(step, n int) float64 { return min(1, float64(max(0, step))/float64(max(1, n))) }

// Cosine falls from lr to end along half a cosine over n steps, then stays (Loshchilov and
// Hutter 2017, arXiv 1608.03983).
func Cosine(lr, end float64, n int) LR {
	return func(step int) float64 {
		return end + (lr-end)*(1+math.Cos(math.Pi*progress(step, n)))/2
	}
}

// LinearRate falls or rises linearly from lr to end over n steps, then stays.
func LinearRate(lr, end float64, n int) LR {
	return func(step int) float64 { return lr + (end-lr)*progress(step, n) }
}

// MultiStep is lr, multiplied by factor at each of the steps.
func MultiStep(lr, factor float64, at ...int) LR {
	return func(step int) float64 {
		r := lr
		for _, s := range at {
			if step >= s {
				r *= factor
			}
		}
		return r
	}
}

// Exponential is lr, multiplied by factor every n steps, smoothly.
func Exponential(lr, factor float64, n int) LR {
	return func(step int) float64 { return lr * math.Pow(factor, float64(step)/float64(max(1, n))) }
}

// OneCycle rises from lr/25 to lr along half a cosine over the first share of n steps, and
// falls to lr/250,000 over the rest (Smith and Topin 2019, arXiv 1708.07120; the ends are
// those of torch).
func OneCycle(lr, share float64, n int) LR {
	return func(step int) float64 {
		first := share * float64(n)
		if s := float64(step); s < first {
			return lr - lr*(1-1.0/25)*(1+math.Cos(math.Pi*s/first))/2
		}
		p := min(1, (float64(step)-first)/max(1, float64(n)-first))
		end := lr / 25 / 1e4
		return end + (lr-end)*(1+math.Cos(math.Pi*p))/2
	}
}
