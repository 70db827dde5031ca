package rng

// Multipliers and key increments of Philox4x32 (the paper's table 2; the
// increments are the golden ratio and √3−1 in 32 bits).
const (
	mul0 = 0xD2511F53
	mul1 = 0xCD9E8D57
	wey0 = 0x9E3779B9
	wey1 = 0xBB67AE85

	rounds = 10
)

// Philox returns the four words of one block: ten rounds of Philox4x32 on the
// counter c under the key k.
func Philox(c [4]uint32, k [2]uint32) [4]uint32 {
	c0, c1, c2, c3 := c[0], c[1], c[2], c[3]
	k0, k1 := k[0], k[1]
	for range rounds {
		p0 := uint64(c0) * mul0
		p1 := uint64(c2) * mul1
		c0, c1, c2, c3 = uint32(p1>>32)^c1^k0, uint32(p1), uint32(p0>>32)^c3^k1, uint32(p0)
		k0 += wey0
		k1 += wey1
	}
	return [4]uint32{c0, c1, c2, c3}
}
