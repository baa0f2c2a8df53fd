package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/iotest"
)

func TestHTT04Chunks(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, raw, body string
		err             error
	}{
		{"one chunk", "5\r\nabcde\r\n0\r\n\r\n", "abcde", nil},
		{"two chunks, capitals and a leading zero", "0A\r\n0123456789\r\n0b\r\n0123456789a\r\n0\r\n\r\n", "01234567890123456789a", nil},
		{"no chunk", "0\r\n\r\n", "", nil},
		{"zeros end it too", "00000000\r\n\r\n", "", nil},
		{"what follows is not read as a body", "1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n", "a", nil},
		{"CRLF as data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n", nil},
		{"a harmless trailer", "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n", "a", nil},
		{"an extension", "5;ext\r\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"an extension of the last chunk", "1\r\na\r\n0;ext\r\n\r\n", "a", errChunks},
		{"a huge extension", "5;" + strings.Repeat("a", 1<<20) + "\r\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"an extension with a bare LF", "5;ext=\"\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"a space after the size", "5 \r\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"a space and an extension", "5 ;\r\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"a space before the size", " 5\r\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"a bare LF after the size", "5\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"a bare LF after the data", "5\r\nabcde\n0\r\n\r\n", "abcde", errChunks},
		{"a bare CR after the size", "5\rabcde\r\n0\r\n\r\n", "", errChunks},
		{"0x", "0x5\r\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"a minus sign", "-1\r\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"no size", "\r\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"9 hex digits", "000000005\r\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"20 hex digits", "FFFFFFFFFFFFFFFFFFFF\r\nabcde\r\n0\r\n\r\n", "", errChunks},
		{"data longer than the size", "3\r\nabcde\r\n0\r\n\r\n", "abc", errChunks},
		{"data shorter than the size", "5\r\nabc\r\n0\r\n\r\n", "abc\r\n", errChunks},
		{"the final CRLF is missing", "1\r\na\r\n0\r\n", "a", io.ErrUnexpectedEOF},
		{"something else instead of the final CRLF", "1\r\na\r\n0\r\nX", "a", io.ErrUnexpectedEOF},
		{"cut in the data", "5\r\nab", "ab", io.ErrUnexpectedEOF},
		{"cut in the size", "5", "", io.ErrUnexpectedEOF},
		{"nothing at all", "", "", io.ErrUnexpectedEOF},
		{"a trailer Content-Length", "1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n", "a", errChunks},
		{"a trailer Authorization", "1\r\na\r\n0\r\nAuthorization: Basic eA==\r\n\r\n", "a", errChunks},
		{"a trailer Host", "1\r\na\r\n0\r\nhost: b\r\n\r\n", "a", errChunks},
		{"a trailer Transfer-Encoding", "1\r\na\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "a", errChunks},
		{"a folded trailer", "1\r\na\r\n0\r\nX: a\r\n b\r\n\r\n", "a", errChunks},
		{"a trailer without a colon", "1\r\na\r\n0\r\nX\r\n\r\n", "a", errChunks},
		{"trailers of 2 KiB", "1\r\na\r\n0\r\n" + strings.Repeat("X: "+strings.Repeat("a", 200)+"\r\n", 10) + "\r\n", "a", errChunks},
		{"a trailer line without an end", "1\r\na\r\n0\r\nX: " + strings.Repeat("a", 1<<20), "a", errChunks},
		{"1 024 one-byte chunks and some", strings.Repeat("1\r\na\r\n", 1_050) + "0\r\n\r\n", strings.Repeat("a", 1_050), nil},
		{"a million one-byte chunks", strings.Repeat("1\r\na\r\n", 1_000_000) + "0\r\n\r\n", strings.Repeat("a", 1_092), errTiny},
		{"many chunks of a usual size", strings.Repeat("10\r\n0123456789abcdef\r\n", 10_000) + "0\r\n\r\n", strings.Repeat("0123456789abcdef", 10_000), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			readers := map[string]io.Reader{"whole": strings.NewReader(tt.raw)}
			if len(tt.raw) < 1<<16 {
				readers["byte by byte"] = iotest.OneByteReader(strings.NewReader(tt.raw))
				readers["with its end"] = iotest.DataErrReader(strings.NewReader(tt.raw))
			}
			for how, raw := range readers {
				d := &chunks{raw: raw}
				body, err := io.ReadAll(d)
				if !errors.Is(err, tt.err) {
					t.Errorf("%s: error %v, want %v", how, err, tt.err)
				}
				if string(body) != tt.body {
					t.Errorf("%s: %d bytes %.40q, want %d bytes %.40q", how, len(body), body, len(tt.body), tt.body)
				}
				if n, again := d.Read(make([]byte, 8)); n != 0 || err != nil && !errors.Is(again, err) || err == nil && again != io.EOF {
					t.Errorf("%s: after its end it gives %d bytes and %v", how, n, again)
				}
			}
		})
	}
}

// FuzzHTT04Chunks: it takes less than the standard library's decoder, and what it takes
// it reads as that one does.
func FuzzHTT04Chunks(f *testing.F) {
	for _, seed := range []string{
		"5\r\nabcde\r\n0\r\n\r\n", "5;ext\r\nabcde\r\n0\r\n\r\n", "1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n", "0\r\n\r\n",
		"10\r\n0123456789abcdef\r\n0\r\n\r\nnext", "5 \r\nabcde\r\n0\r\n\r\n", "5\nabcde\n0\n\n", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, err := io.ReadAll(&chunks{raw: bytes.NewReader(raw)})
		slow, slowErr := io.ReadAll(&chunks{raw: iotest.OneByteReader(bytes.NewReader(raw))})
		if !bytes.Equal(body, slow) || fmt.Sprint(err) != fmt.Sprint(slowErr) {
			t.Fatalf("byte by byte it reads %q, %v; whole %q, %v", slow, slowErr, body, err)
		}
		if err != nil {
			return
		}
		want, wantErr := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(raw)))
		if wantErr != nil || !bytes.Equal(body, want) {
			t.Fatalf("it takes %q; the standard library reads %q, %v", body, want, wantErr)
		}
	})
}
