package unet

// Costs is the multiplications and additions, of each as many, of a forward pass for one
// picture of h×w with contexts of that many tokens each: by block, and of all the rest, the
// embedding and the last convolution. Norms and functions are not counted.
func (u *UNet) Costs(h, w, tokens int) (blocks []float64, rest float64) {
	c := &u.config
	p := c.patch()
	h, w = h/p, w/p
	blocks = make([]float64, len(u.blocks))
	c.plan().each(func(l *layer) { blocks[l.id] = c.cost(l, h, w, tokens) })
	e := float64(c.embed())
	rest = float64(c.waves().Width)*e + e*e
	for _, v := range c.Vectors {
		rest += float64(v.Width)*e + e*e
	}
	return blocks, rest + float64(9*c.channels(0)*c.out()*p*p)*float64(h*w)
}

func (c *Config) cost(l *layer, h, w, tokens int) float64 {
	area := float64(h>>l.level) * float64(w>>l.level)
	in, out := float64(l.in), float64(l.out)
	switch l.kind {
	case down, resDown:
		area /= 4
	case up, resUp:
		area *= 4
	}
	switch l.kind {
	case convIn:
		return 9 * in * out * area
	case down, up:
		if c.PoolResample {
			return 0
		}
		return 9 * in * out * area
	case attn:
		return area*4*in*in + 2*area*area*in
	case transform:
		one := area*4*in*in + 2*area*area*in // self-attention
		one += area * 2 * in * in            // to queries of the context, and back
		if len(c.Contexts) == 0 {
			one += area*2*in*in + 2*area*area*in
		}
		for _, x := range c.Contexts {
			one += float64(tokens) * (2*in*float64(x.Width) + 2*area*in)
		}
		one += area * 12 * in * in // to gates and values of 4 times the width, and back
		return area*2*in*in + float64(c.depth(l.level))*one
	}
	wide := out
	if c.ScaleShift {
		wide *= 2
	}
	cost := area*9*out*(in+out) + float64(c.embed())*wide
	if c.skips(l) {
		cost += area * in * out
	}
	return cost
}
