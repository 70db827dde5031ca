package lion

import "math"

// Loops over elements. The arithmetic that most programs are made of is written out; the
// conversions keep products from being fused into sums.

func mapOne[T Float](to, x []T, f *function) {
	switch f.name {
	case "square":
		for i, v := range x {
			to[i] = v * v
		}
	case "sqrt":
		for i, v := range x {
			to[i] = T(math.Sqrt(math.Abs(float64(v))))
		}
	case "abs":
		for i, v := range x {
			to[i] = T(math.Abs(float64(v)))
		}
	case "negative":
		for i, v := range x {
			to[i] = -v
		}
	default:
		for i, v := range x {
			to[i] = T(f.one(float64(v)))
		}
	}
}

// mapTwo is f of x and y, of which a nil one is the scalar beside it.
func mapTwo[T Float](to, x, y []T, xs, ys float64, f *function) {
	switch {
	case x == nil:
		twoFrom(to, y, T(xs), f)
	case y == nil:
		twoWith(to, x, T(ys), f)
	default:
		twoOf(to, x, y, f)
	}
}

func twoOf[T Float](to, x, y []T, f *function) {
	switch f.infix {
	case "+":
		for i, v := range x {
			to[i] = v + y[i]
		}
	case "-":
		for i, v := range x {
			to[i] = v - y[i]
		}
	case "*":
		for i, v := range x {
			to[i] = v * y[i]
		}
	case "/":
		for i, v := range x {
			to[i] = v / y[i]
		}
	default:
		for i, v := range x {
			to[i] = T(f.two(float64(v), float64(y[i])))
		}
	}
}

func twoWith[T Float](to, x []T, y T, f *function) {
	switch f.infix {
	case "+":
		for i, v := range x {
			to[i] = v + y
		}
	case "-":
		for i, v := range x {
			to[i] = v - y
		}
	case "*":
		for i, v := range x {
			to[i] = v * y
		}
	case "/":
		for i, v := range x {
			to[i] = v / y
		}
	default:
		for i, v := range x {
			to[i] = T(f.two(float64(v), float64(y)))
		}
	}
}

func twoFrom[T Float](to, y []T, x T, f *function) {
	switch f.infix {
	case "+":
		for i, v := range y {
			to[i] = x + v
		}
	case "-":
		for i, v := range y {
			to[i] = x - v
		}
	case "*":
		for i, v := range y {
			to[i] = x * v
		}
	case "/":
		for i, v := range y {
			to[i] = x / v
		}
	default:
		for i, v := range y {
			to[i] = T(f.two(float64(x), float64(v)))
		}
	}
}

// interpolate is keep·x + a·y.
func interpolate[T Float](to, x, y []T, xs, ys, keep, a T) {
	switch {
	case x == nil:
		c := keep * xs
		for i, v := range y {
			to[i] = c + T(a*v)
		}
	case y == nil:
		c := a * ys
		for i, v := range x {
			to[i] = T(keep*v) + c
		}
	default:
		for i, v := range x {
			to[i] = T(keep*v) + T(a*y[i])
		}
	}
}
