package agent

import "math"

// missed is how likely a right fault lies outside one of its bounds, on either
// side. A train has at most three counts, and three trains have to miss before
// a right fault counts as not proven: with the forced lower bound of one (see
// [bounds]) that is rarer than 1 in 10 million for each link.
const missed = 5e-6

// bounds are the least and the most successes in n tries that a chance of so
// many per mille makes credible. The least is never below one: what did not
// show at all is not proven. Trains are long enough for a right fault to show
// nothing in one of 400 at most.
func bounds(n, perMille int) (least, most int) {
	p := float64(perMille) / 1000
	if p >= 1 {
		return n - n/20, n // a busy machine loses some
	}
	below, k := 0.0, 0
	for ; k < n; k++ { // the first k with P(X <= k) > missed
		if below += binomial(n, k, p); below > missed {
			break
		}
	}
	above, m := 0.0, n
	for ; m > 0; m-- {
		if above += binomial(n, m, p); above > missed {
			break
		}
	}
	return max(k, 1), max(m, 1)
}

// binomial is the chance of exactly k successes in n tries; p is in (0, 1).
func binomial(n, k int, p float64) float64 {
	lg := func(x int) float64 { v, _ := math.Lgamma(float64(x + 1)); return v }
	return math.Exp(lg(n) - lg(k) - lg(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}
