package clients

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"strings"
	"unicode/utf8"
)

// attribute is one type and value of a distinguished name.
type attribute struct{ oid, value string }

// dnTypes are the short names of attribute types (RFC 4514 §3), and those that tools
// write besides.
func dnTypes() map[string]string {
	return map[string]string{
		"CN": "2.5.4.3", "L": "2.5.4.7", "ST": "2.5.4.8", "O": "2.5.4.10", "OU": "2.5.4.11", "C": "2.5.4.6",
		"STREET": "2.5.4.9", "DC": "0.9.2342.19200300.100.1.25", "UID": "0.9.2342.19200300.100.1.1",
		"SERIALNUMBER": "2.5.4.5", "EMAILADDRESS": "1.2.840.113549.1.9.1", "E": "1.2.840.113549.1.9.1",
	}
}

func validDN(s string) bool {
	_, ok := parseDN(s)
	return ok
}

// parseDN reads the string form of a distinguished name (RFC 4514 §3), first relative
// name first. Values in the #hex form are not taken: they can be written as text.
func parseDN(s string) ([][]attribute, bool) {
	if s == "" || len(s) > maxURI || !utf8.ValidString(s) {
		return nil, false
	}
	var dn [][]attribute
	var rdn []attribute
	for {
		name, rest, found := strings.Cut(s, "=")
		oid, ok := typeOID(name)
		if !found || !ok {
			return nil, false
		}
		value, end, rest, ok := dnValue(rest)
		if !ok {
			return nil, false
		}
		rdn = append(rdn, attribute{oid, value})
		if end != '+' {
			slices.SortFunc(rdn, compareAttributes)
			dn, rdn = append(dn, rdn), nil
		}
		if end == 0 {
			return dn, true
		}
		s = rest
	}
}

func compareAttributes(a, b attribute) int {
	if c := strings.Compare(a.oid, b.oid); c != 0 {
		return c
	}
	return strings.Compare(a.value, b.value)
}

func typeOID(name string) (string, bool) {
	name = strings.Trim(name, " ")
	if oid, ok := dnTypes()[strings.ToUpper(name)]; ok {
		return oid, true
	}
	name = strings.TrimPrefix(strings.ToUpper(name), "OID.")
	for _, part := range strings.Split(name, ".") {
		if part == "" || strings.Trim(part, "0123456789") != "" || len(part) > 1 && part[0] == '0' {
			return "", false
		}
	}
	return name, strings.Contains(name, ".")
}

// dnValue reads one value and the separator after it; 0 at the end.
func dnValue(s string) (value string, end byte, rest string, ok bool) {
	s = strings.TrimLeft(s, " ")
	if strings.HasPrefix(s, "#") {
		return "", 0, "", false
	}
	var out []byte
	kept := 0 // up to here nothing is a space that may be dropped
	for i := 0; i < len(s); i++ {
		switch b := s[i]; b {
		case ',', '+':
			return dnText(out[:trimmed(out, kept)], b, s[i+1:])
		case ';', '<', '>', '"', 0:
			return "", 0, "", false
		case '\\':
			c, n := escaped(s[i+1:])
			if n == 0 {
				return "", 0, "", false
			}
			i += n
			out = append(out, c)
			kept = len(out)
		default:
			out = append(out, b)
		}
	}
	return dnText(out[:trimmed(out, kept)], 0, "")
}

func dnText(value []byte, end byte, rest string) (string, byte, string, bool) {
	return string(value), end, rest, len(value) > 0 && utf8.Valid(value)
}

// trimmed is the length without the spaces at the end that were not escaped.
func trimmed(out []byte, kept int) int {
	n := len(out)
	for n > kept && out[n-1] == ' ' {
		n--
	}
	return n
}

// escaped reads what follows a backslash: a special character, or two hex digits.
func escaped(s string) (c byte, n int) {
	if s == "" {
		return 0, 0
	}
	if strings.IndexByte(` "#+,;<=>\`, s[0]) >= 0 {
		return s[0], 1
	}
	if len(s) > 1 {
		if hi, lo := unhex(s[0]), unhex(s[1]); hi >= 0 && lo >= 0 {
			return byte(hi<<4 | lo), 2
		}
	}
	return 0, 0
}

// subjectDN reads the subject of a certificate, in the order of RFC 4514 §2.1: the last
// relative name first.
func subjectDN(raw []byte) ([][]attribute, bool) {
	var seq pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw, &seq); err != nil || len(rest) > 0 || len(seq) == 0 {
		return nil, false
	}
	dn := make([][]attribute, 0, len(seq))
	for _, set := range slices.Backward(seq) {
		var rdn []attribute
		for _, a := range set {
			value, ok := a.Value.(string)
			if !ok {
				return nil, false
			}
			rdn = append(rdn, attribute{a.Type.String(), value})
		}
		slices.SortFunc(rdn, compareAttributes)
		dn = append(dn, rdn)
	}
	return dn, true
}

// sameDN compares names part by part: the encoding of a value and the order within one
// relative name are no matter, the order of the relative names and letter case are.
func sameDN(a, b [][]attribute) bool {
	return len(a) > 0 && slices.EqualFunc(a, b, slices.Equal[[]attribute])
}
