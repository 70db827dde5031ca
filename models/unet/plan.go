package unet

import "fmt"

// kind is what a layer of the plan does.
type kind int

const (
	convIn kind = iota
	res
	resDown // a residual block that halves the picture
	resUp
	down // a convolution that halves the picture, or a mean of pixels
	up
	attn
	transform
)

var kindNames = [...]string{"conv", "res", "res-down", "res-up", "down", "up", "attention", "transformer"}

func (k kind) String() string { return kindNames[k] }
func (k kind) residual() bool { return k >= res && k <= resUp }
func (k kind) attends() bool  { return k >= attn }

// layer is one part of a stage.
type layer struct {
	kind    kind
	name    string // its scope: input_blocks.3.0
	in, out int    // channels
	level   int
	id      int
}

// stage is the layers between two skips.
type stage struct {
	name   string
	layers []layer
}

// plan is the structure of a U-Net as data, in ADM's order and under its names: New, Control,
// Check and the names of other libraries all follow it.
type plan struct {
	input  []stage // what each gives is handed over to the way up
	middle stage
	output []stage
	skips  []int // channels of what input stages give
}

func (p *plan) each(f func(l *layer)) {
	do := func(s *stage) {
		for i := range s.layers {
			f(&s.layers[i])
		}
	}
	for i := range p.input {
		do(&p.input[i])
	}
	do(&p.middle)
	for i := range p.output {
		do(&p.output[i])
	}
}

func (c *Config) attends(level int) bool {
	for _, at := range c.AttnAt {
		if at == 1<<level {
			return true
		}
	}
	return false
}

func (c *Config) attention() kind {
	if c.transformer() {
		return transform
	}
	return attn
}

func (c *Config) plan() *plan {
	p := &plan{}
	ch := c.channels(0)
	if c.First > 0 {
		ch = c.First
	}
	add := func(s *stage, k kind, out, level int) {
		s.layers = append(s.layers, layer{kind: k, name: fmt.Sprintf("%s.%d", s.name, len(s.layers)), in: ch, out: out, level: level})
		ch = out
	}
	enter := func(s stage) {
		p.input, p.skips = append(p.input, s), append(p.skips, ch)
	}
	next := func() stage { return stage{name: fmt.Sprintf("input_blocks.%d", len(p.input))} }

	first := next()
	add(&first, convIn, ch, 0)
	first.layers[0].in = (c.Channels + c.Extra) * c.patch() * c.patch()
	enter(first)
	for level := range c.levels() {
		for range c.Blocks {
			s := next()
			add(&s, res, c.channels(level), level)
			if c.attends(level) {
				add(&s, c.attention(), ch, level)
			}
			enter(s)
		}
		if level < c.levels()-1 {
			s := next()
			if c.ResampleBlocks {
				add(&s, resDown, ch, level)
			} else {
				add(&s, down, ch, level)
			}
			enter(s)
		}
	}
	last := c.levels() - 1
	p.middle.name = "middle_block"
	add(&p.middle, res, ch, last)
	if !c.NoMidAttn {
		add(&p.middle, c.attention(), ch, last)
	}
	add(&p.middle, res, ch, last)
	rest := p.skips
	for level := last; level >= 0; level-- {
		for i := range c.Blocks + 1 {
			s := stage{name: fmt.Sprintf("output_blocks.%d", len(p.output))}
			ch += rest[len(rest)-1]
			rest = rest[:len(rest)-1]
			add(&s, res, c.channels(level), level)
			if c.attends(level) && (!c.UpLast || i == c.Blocks) {
				add(&s, c.attention(), ch, level)
			}
			if level > 0 && i == c.Blocks {
				if c.ResampleBlocks {
					add(&s, resUp, ch, level)
				} else {
					add(&s, up, ch, level)
				}
			}
			p.output = append(p.output, s)
		}
	}
	id := 0
	p.each(func(l *layer) {
		l.id = id
		id++
	})
	return p
}
