package street

import "github.com/fidlab/fidlab/data"

// palette are the colours of the classes in full light; Empty is the sky's at the
// top. They were found by a search (simulated annealing in bounds that keep roads
// dull and trees green) for the greatest distance between different classes over
// all tints and shades at night: it is 30, four times what the texture can add.
var palette = [Classes][3]int{
	Empty: {99, 190, 255}, Car: {255, 252, 255}, Truck: {93, 100, 255}, Pedestrian: {244, 95, 138},
	Road: {104, 77, 114}, Sidewalk: {210, 205, 150}, Grass: {119, 220, 77}, Building: {205, 117, 34}, Tree: {0, 60, 70},
}

// skyLow is the sky's colour at the lower edge.
var skyLow = [3]int{225, 243, 255}

// bodyTints are the five colours of vehicles, as shares of 255.
var bodyTints = [tints][3]int{{243, 14, 30}, {190, 255, 6}, {62, 150, 207}, {255, 180, 255}, {251, 136, 255}}

// shades of the faces and lights, in per cent.
var (
	shades = [3]int{100, 85, 70} // top, across x, across y
	lights = [2]int{100, 45}     // day, night
)

// roughness is the greatest deviation of the texture.
const roughness = 4

func light(night bool) int {
	if night {
		return lights[1]
	}
	return lights[0]
}

// shadeOf is the number of the shade of a face that is entered along an axis. A
// camera inside a voxel, axis −1, sees it as a top.
func shadeOf(axis int) int {
	switch axis {
	case 0:
		return 1
	case 1:
		return 2
	}
	return 0
}

// surface is the colour of a class without its texture, rounded half up.
func surface(cls, tint uint8, shade int, night bool) (c [3]int) {
	for ch := range c {
		t := 255
		if cls == Car || cls == Truck {
			t = bodyTints[tint][ch]
		}
		const whole = 255 * 100 * 100
		c[ch] = (2*palette[cls][ch]*t*shades[shade]*light(night) + whole) / (2 * whole)
	}
	return c
}

// skyColor is the sky in a row of h: a ramp between the colours at the upper and
// the lower edge, at the middle of the row, rounded half up.
func skyColor(row, h int, night bool) (c [3]uint8) {
	for ch := range c {
		v := palette[Empty][ch]*(2*h-2*row-1) + skyLow[ch]*(2*row+1)
		whole := 2 * h * 100
		c[ch] = uint8((2*v*light(night) + whole) / (2 * whole))
	}
	return c
}

// texture is the deviation of a voxel's colour: of the mixed key, 16 bits a channel,
// modulo 9, less 4.
func texture(key, voxel uint64) (n [3]int) {
	u := data.Mix(key ^ data.Mix(voxel+1))
	for ch := range n {
		n[ch] = int(u>>(16*ch)&0xffff)%(2*roughness+1) - roughness
	}
	return n
}
