package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"time"
)

// hidden stands in for every secret that is shown, logged or encoded.
const hidden = "(hidden)"

// Secret is a setting that is never shown: formatting, logging and encoding
// give a placeholder. Reveal gives the text.
type Secret string

// Reveal returns the secret itself, for the one place that uses it.
func (s Secret) Reveal() string { return string(s) }

// String hides the secret and tells only whether there is one.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return hidden
}

// GoString hides the secret from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// LogValue hides the secret from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the secret from encoders, JSON among them.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Bytes is a size in bytes.
type Bytes int64

// String writes the size with the largest binary unit that fits exactly.
func (b Bytes) String() string {
	for _, u := range []struct {
		name string
		size Bytes
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if b != 0 && b%u.size == 0 {
			return strconv.FormatInt(int64(b/u.size), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText encodes the size as String writes it.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// ParseBytes reads a size: a whole number of bytes, or one with B, KiB, MiB,
// GiB, TiB (powers of 1024) or KB, MB, GB, TB (powers of 1000).
func ParseBytes(text string) (Bytes, error) {
	digits := strings.TrimRight(text, "BKMGTikmgtb ")
	unit := strings.ToLower(strings.TrimSpace(text[len(digits):]))
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, errors.New("is not a size; write 64KiB, 16MiB or a number of bytes")
	}
	var scale int64
	switch unit {
	case "", "b":
		scale = 1
	case "kib":
		scale = 1 << 10
	case "mib":
		scale = 1 << 20
	case "gib":
		scale = 1 << 30
	case "tib":
		scale = 1 << 40
	case "kb":
		scale = 1e3
	case "mb":
		scale = 1e6
	case "gb":
		scale = 1e9
	case "tb":
		scale = 1e12
	default:
		return 0, errors.New("has an unknown unit; use KiB, MiB, GiB or TiB")
	}
	if n > math.MaxInt64/scale {
		return 0, errors.New("is too large")
	}
	return Bytes(n * scale), nil
}

// ParseDuration reads a duration: as Go writes it ("10m", "1h30m") or as a
// number of seconds.
func ParseDuration(text string) (time.Duration, error) {
	const fix = "is not a duration; write 10m, 1h30m or a number of seconds"
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 0 || n > math.MaxInt64/int64(time.Second) {
			return 0, errors.New(fix)
		}
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, errors.New(fix)
	}
	return d, nil
}

// formatDuration writes 10m for what time.Duration calls 10m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// splitList reads a list from a variable or a flag.
func splitList(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	items := strings.Split(text, ",")
	for i, item := range items {
		items[i] = strings.TrimSpace(item)
		if items[i] == "" {
			return nil, fmt.Errorf("has an empty item at place %d; separate the items by single commas", i+1)
		}
	}
	return items, nil
}
