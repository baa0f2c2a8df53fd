package adminapi

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// duration reads a member that is a number of seconds or a string: Go's form, or
// seconds in digits. preset is for one that is absent.
func duration(field string, raw json.RawMessage, preset time.Duration) (time.Duration, error) {
	if len(raw) == 0 {
		return preset, nil
	}
	var text string
	if raw[0] == '"' {
		if err := json.Unmarshal(raw, &text); err != nil {
			return 0, invalid(field, durationForm)
		}
	} else {
		text = string(raw) // a number; null and the rest fail below
	}
	return parseDuration(field, text)
}

const durationForm = `a duration is needed, in seconds or such as "10m"`

// maxSeconds bounds a duration so that no sum with it overflows: a hundred years.
const maxSeconds = 100 * 366 * 24 * 3600

func parseDuration(field, text string) (time.Duration, error) {
	if text != "" && strings.Trim(text, "0123456789") == "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n > maxSeconds {
			return 0, invalid(field, "the duration is beyond a hundred years")
		}
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || len(text) > 64 || d < 0 {
		return 0, invalid(field, durationForm)
	}
	return d, nil
}

func escape(id string) string { return url.PathEscape(id) }

// seconds is an instant in milliseconds as seconds; 0 stays 0.
func seconds(ms int64) int64 { return ms / 1000 }
