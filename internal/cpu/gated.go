package cpu

// Gated sets out[r·ldo+i] to f(x[r·ldx+i])·v[r·ldx+i] for rows×n elements where it is called, on one thread. It panics when a slice is too short.
func Gated[T Float](f Func, a, b float64, rows, n int, out []T, ldo int, x, v []T, ldx int) {
	if rows <= 0 || n <= 0 {
		return
	}
	for i, s := range [...][]T{x, v} {
		reach("Gated", [...]string{"x", "v"}[i], len(s), (rows-1)*ldx+n)
	}
	reach("Gated", "out", len(out), (rows-1)*ldo+n)
	if o, ok := any(out).([]float32); ok && f < funcVectors && f != FuncIdentity &&
		nativeGated(f, a, b, rows, n, o, ldo, any(x).([]float32), any(v).([]float32), ldx) {
		return
	}
	for r := range rows {
		to, v := out[r*ldo:][:n], v[r*ldx:][:n]
		goFunc(f, a, b, to, x[r*ldx:][:n])
		for i := range to {
			to[i] *= v[i]
		}
	}
}

// GatedBack sets dx and dv, rows of stride ldx as x and v, to the gradients by these of a loss whose gradient by Gated's result is dy. dx and dv
// are none of the others.
func GatedBack[T Float](f Func, a, b float64, rows, n int, dx, dv, x, v []T, ldx int, dy []T, ldy int) {
	if rows <= 0 || n <= 0 {
		return
	}
	for i, s := range [...][]T{dx, dv, x, v} {
		reach("GatedBack", [...]string{"dx", "dv", "x", "v"}[i], len(s), (rows-1)*ldx+n)
	}
	reach("GatedBack", "dy", len(dy), (rows-1)*ldy+n)
	if d, ok := any(dx).([]float32); ok && f < funcVectors && f != FuncIdentity &&
		nativeGatedBack(f, a, b, rows, n, d, any(dv).([]float32), any(x).([]float32), any(v).([]float32), ldx, any(dy).([]float32), ldy) {
		return
	}
	for r := range rows {
		at := r * ldx
		x, v, dx, dv, dy := x[at:][:n], v[at:][:n], dx[at:][:n], dv[at:][:n], dy[r*ldy:][:n]
		for i, g := range dy {
			dx[i] = g * v[i]
		}
		goFuncBack(f, a, b, dx, x, dx, false)
		goFunc(f, a, b, dv, x)
		for i, g := range dy {
			dv[i] *= g
		}
	}
}
