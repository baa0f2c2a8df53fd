package httpapi

import (
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// Accepts is the weight in thousandths that Accept (RFC 9110 §12.5.1) gives to a media
// type by its whole name; -1 where it doesn't name it.
func Accepts(c *fasthttp.RequestCtx, media string) int {
	found := -1
	for _, value := range c.Request.Header.PeekAll(fasthttp.HeaderAccept) {
		for part := range strings.SplitSeq(string(value), ",") {
			name, params, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.Trim(name, " \t"), media) {
				found = Weight(params)
			}
		}
	}
	return found
}

// Weight is the q of a part of Accept in thousandths: 1000 without one, 0 for what is
// no number of the RFC.
func Weight(params string) int {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if !strings.EqualFold(strings.Trim(name, " \t"), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.Trim(value, " \t"), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			return 0
		}
		return int(q * 1000)
	}
	return 1000
}
