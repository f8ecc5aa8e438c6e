package embed

import "math"

// linear is a layer y = w x + b.
type linear struct {
	in, out int
	w       []float32 // out rows of in numbers
	b       []float32
}

// apply sets each row of y to the layer's answer to a row of x. A row of w meets
// four of x at a time, which makes four sums that do not wait for each other;
// more do not fit in the registers.
func (l *linear) apply(y, x []float32) {
	n := len(x) / l.in
	for o := range l.out {
		w, bias := l.w[o*l.in:][:l.in], l.b[o]
		t := 0
		for ; t+4 <= n; t += 4 {
			a, b, c, d := dots(w, x[t*l.in:][:4*l.in])
			y[t*l.out+o], y[(t+1)*l.out+o], y[(t+2)*l.out+o], y[(t+3)*l.out+o] = a+bias, b+bias, c+bias, d+bias
		}
		for ; t < n; t++ {
			y[t*l.out+o] = dot(w, x[t*l.in:][:l.in]) + bias
		}
	}
}

// dots gives the products of w with four rows of x.
func dots(w, x []float32) (s0, s1, s2, s3 float32) {
	n := len(w)
	a, b, c, d := x[:n], x[n:][:n], x[2*n:][:n], x[3*n:][:n]
	for i, f := range w {
		s0 += f * a[i]
		s1 += f * b[i]
		s2 += f * c[i]
		s3 += f * d[i]
	}
	return s0, s1, s2, s3
}

func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += a[i] * b[i]
		s1 += a[i+1] * b[i+1]
		s2 += a[i+2] * b[i+2]
		s3 += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + s2 + s3
}

// add adds y to x.
func add(x, y []float32) {
	for i, f := range y[:len(x)] {
		x[i] += f
	}
}

// gelu is the activation x Φ(x) (Hendrycks and Gimpel 2016).
func gelu(x []float32) {
	for i, f := range x {
		x[i] = f * 0.5 * float32(1+math.Erf(float64(f)*(1/math.Sqrt2)))
	}
}

// layerNorm scales rows to mean 0 and variance 1, and then by learnt factors.
type layerNorm struct {
	factor, bias []float32
}

func (l *layerNorm) apply(x []float32, epsilon float64) {
	n := len(l.factor)
	for ; len(x) > 0; x = x[n:] {
		row := x[:n]
		var mean, variance float32
		for _, f := range row {
			mean += f
		}
		mean /= float32(n)
		for _, f := range row {
			variance += (f - mean) * (f - mean)
		}
		scale := float32(1 / math.Sqrt(float64(variance)/float64(n)+epsilon))
		for i, f := range row {
			row[i] = (f-mean)*scale*l.factor[i] + l.bias[i]
		}
	}
}

// loader reads tensors until the first error, which it keeps.
type loader struct {
	ts     tensors
	prefix string
	err    error
}

// floats reads a tensor of the shape, where 0 stands for any number.
func (l *loader) floats(name string, shape ...int) []float32 {
	if l.err != nil {
		return nil
	}
	var f []float32
	f, l.err = l.ts.floats(l.prefix+name, shape...)
	return f
}

func (l *loader) norm(name string, n int) layerNorm {
	return layerNorm{l.floats(name+".weight", n), l.floats(name+".bias", n)}
}

// linear reads a layer; of out and in the one that is 0 is what the file has.
func (l *loader) linear(name string, out, in int) linear {
	w := l.floats(name+".weight", out, in)
	b := l.floats(name+".bias", out)
	if l.err != nil {
		return linear{}
	}
	return linear{in: len(w) / len(b), out: len(b), w: w, b: b}
}
