package street

import (
	"github.com/fidlab/fidlab/geom"
	"github.com/fidlab/fidlab/imageio"
	"github.com/fidlab/fidlab/imageio/label"
)

// The views, in the order in which each shares its right edge with the next.
const (
	Front = iota
	Right
	Back
	Left
	Views
)

// ViewNames are their names.
var ViewNames = [Views]string{"front", "right", "back", "left"}

// Rows and columns of a view at scale 1.
const (
	Rows    = 16
	Columns = 32
)

// View is what a camera sees.
type View struct {
	W, H  int
	Pix   []uint8    // [H, W, 3]
	Cls   *label.Map // class of each pixel, Empty for the sky
	Inst  *label.Map // number of the box, 0 for none
	Depth []float32  // along the optical axis, in metres; 0 for the sky

	voxel [][3]uint8 // that each pixel shows
	axis  []int8     // of the face; −2 for the sky
}

// Image is the picture of the view.
func (v *View) Image() *imageio.Image {
	return &imageio.Image{Width: v.W, Height: v.H, Pix: v.Pix, Facts: imageio.Facts{Format: "raw", Decoder: name}}
}

// Lane is a line on the road, from its first to its last point: 8 evenly spaced
// ones, in metres from the ego.
type Lane [8]geom.Point

// Frame is an item: a street at a moment, from the ego's place.
type Frame struct {
	Occ     Grid // classes
	Ids     Grid // numbers of the boxes
	Boxes   []Box
	Lanes   []Lane
	Night   bool
	Cams    [Views]geom.Camera
	Views   [Views]View
	Caption string
	Tokens  [Slots]uint8

	view int // that Pictures gives; −1: all
}

// Voxels is the geometry of the grid.
var Voxels = geom.Voxels{N: [3]int{NX, NY, NZ}, Min: geom.Vec{X: -reach, Y: -reach, Z: -1}, Size: 1}

// Cameras are the four at a scale: 90° wide, 1.5 m above the ego's place.
func Cameras(scale int) (c [Views]geom.Camera) {
	s := float64(scale)
	for i := range c {
		c[i].K = [9]float64{16 * s, 0, 16 * s, 0, 16 * s, 8 * s, 0, 0, 1}
	}
	// Rows: to the right, down, forward.
	c[Front].Rt = [12]float64{0, -1, 0, 0, 0, 0, -1, 1.5, 1, 0, 0, 0}
	c[Right].Rt = [12]float64{-1, 0, 0, 0, 0, 0, -1, 1.5, 0, -1, 0, 0}
	c[Back].Rt = [12]float64{0, 1, 0, 0, 0, 0, -1, 1.5, -1, 0, 0, 0}
	c[Left].Rt = [12]float64{1, 0, 0, 0, 0, 0, -1, 1.5, 0, 1, 0, 0}
	return c
}

// textures names the voxel whose texture each voxel of a frame shows.
type textures [NX][NY][NZ]uint64

// frame is the world at frame t, at a scale.
func (w *world) frame(t, scale int) *Frame {
	f := &Frame{Night: w.night, Cams: Cameras(scale), view: -1}
	ego := t * w.speed
	var tex textures
	for i := range NX {
		for j := range NY {
			wi := i + ego
			f.Occ[i][j][ground] = w.floor[wi][j]
			for k := range int(w.height[wi][j]) {
				f.Occ[i][j][ground+1+k] = w.solid[wi][j]
			}
			for k := range NZ {
				tex[i][j][k] = uint64((wi*NY+j)*NZ + k)
			}
		}
	}
	for n := range w.bodies {
		b := &w.bodies[n]
		x0, y0, x1, y1 := b.at(t)
		seen := false
		for x := x0; x < x1; x++ {
			for y := y0; y < y1; y++ {
				i, j := x-ego+reach, y+reach
				if i < 0 || i >= NX || j < 0 || j >= NY {
					continue
				}
				seen = true
				for k := range b.lz {
					f.Occ[i][j][ground+1+k] = b.cls
					f.Ids[i][j][ground+1+k] = uint8(n + 1)
					tex[i][j][ground+1+k] = b.firstVoxelID | uint64(((x-x0)*b.ly+y-y0)*b.lz+k)
				}
			}
		}
		if !seen {
			continue
		}
		s, yaw := sizes[b.cls], 0
		if b.across {
			yaw = 90
		}
		f.Boxes = append(f.Boxes, Box{
			Cls: b.cls, Cx: float64(x0+x1)/2 - float64(ego), Cy: float64(y0+y1) / 2, Cz: float64(b.lz) / 2,
			L: s[0], W: s[1], H: s[2], Yaw: yaw, Inst: uint8(n + 1), Vx: b.vx, Vy: b.vy, Tint: b.tint,
		})
	}
	f.Lanes = w.lanes(ego)
	var tint [most + 1]uint8
	for _, b := range f.Boxes {
		tint[b.Inst] = b.Tint
	}
	for v := range f.Views {
		f.Views[v] = cast(&f.Cams[v], &f.Occ, &f.Ids, scale)
		f.Views[v].paint(w.night, &tex, &tint, w.textureKey)
	}
	f.Caption = f.describe()
	tokens, err := Encode(f.Caption)
	if err != nil {
		panic(err) // a test encodes every caption that can be said
	}
	f.Tokens = tokens
	return f
}

// lanes are both edges and the middle of the road, then of the crossing road where
// it is in the frame.
func (w *world) lanes(ego int) []Lane {
	var out []Lane
	along := func(y float64) (l Lane) {
		for i := range l {
			l[i] = geom.Point{X: -reach + float64(2*reach*i)/7, Y: y}
		}
		return l
	}
	out = append(out, along(float64(-w.right)), along(float64(w.left-w.right)/2), along(float64(w.left)))
	x0 := w.crossX - ego
	if w.cross && x0 < reach && x0+w.crossW > -reach {
		for _, x := range []float64{float64(x0), float64(2*x0+w.crossW) / 2, float64(x0 + w.crossW)} {
			l := along(0)
			for i := range l {
				l[i] = geom.Point{X: x, Y: l[i].X}
			}
			out = append(out, l)
		}
	}
	return out
}

// cast finds class, instance and depth of every pixel.
func cast(c *geom.Camera, occ, ids *Grid, scale int) View {
	w, h := Columns*scale, Rows*scale
	v := View{W: w, H: h, Cls: label.New(w, h), Inst: label.New(w, h), Depth: make([]float32, w*h), voxel: make([][3]uint8, w*h), axis: make([]int8, w*h)}
	for p := range w * h {
		v.axis[p] = -2
		o, d := c.Ray(float64(p%w)+0.5, float64(p/w)+0.5)
		for at := Voxels.Walk(o, d); at.Next(); {
			i, j, k := at.At[0], at.At[1], at.At[2]
			if cls := occ[i][j][k]; cls != Empty {
				v.Cls.IDs[p], v.Inst.IDs[p] = cls, ids[i][j][k]
				v.Depth[p] = float32(at.Enter)
				v.voxel[p], v.axis[p] = [3]uint8{uint8(i), uint8(j), uint8(k)}, int8(at.Axis)
				break
			}
		}
	}
	return v
}

// paint colours what cast has found.
func (v *View) paint(night bool, tex *textures, tint *[most + 1]uint8, key uint64) {
	v.Pix = make([]uint8, 0, 3*v.W*v.H)
	for p, axis := range v.axis {
		if axis == -2 {
			sky := skyColor(p/v.W, v.H, night)
			v.Pix = append(v.Pix, sky[:]...)
			continue
		}
		at := v.voxel[p]
		color := surface(v.Cls.IDs[p], tint[v.Inst.IDs[p]], shadeOf(int(axis)), night)
		for ch, n := range texture(key, tex[at[0]][at[1]][at[2]]) {
			v.Pix = append(v.Pix, uint8(max(0, min(255, color[ch]+n))))
		}
	}
}
