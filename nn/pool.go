package nn

import "fmt"

// MaxPool is the greatest of squares of k×k pixels of x [N, C, H, W], which they must fill;
// the gradient flows to the first of equals.
func (x *Var) MaxPool(k int) *Var {
	s := x.pictures("MaxPool", k)
	if s[2]%k != 0 || s[3]%k != 0 {
		panic(fmt.Sprintf("nn: MaxPool: squares of %d do not fill pictures of %d×%d", k, s[2], s[3]))
	}
	h, w := s[2]/k, s[3]/k
	return x.Reshape(s[0], s[1], h, k, w, k).Permute(0, 1, 2, 4, 3, 5).Reshape(s[0], s[1], h, w, k*k).MaxLast()
}

// MaxPoolLast is MaxPool of x [N, H, W, C].
func (x *Var) MaxPoolLast(k int) *Var {
	s := x.pictures("MaxPool", k)
	if s[1]%k != 0 || s[2]%k != 0 {
		panic(fmt.Sprintf("nn: MaxPool: squares of %d do not fill pictures of %d×%d", k, s[1], s[2]))
	}
	h, w := s[1]/k, s[2]/k
	return x.Reshape(s[0], h, k, w, k, s[3]).Permute(0, 1, 3, 5, 2, 4).Reshape(s[0], h, w, s[3], k*k).MaxLast()
}
