// Command ceiling is the reference that the figures of 'make bench' are held against:
// a server that does for a request what any token service must do, and nothing else.
// No cluster, no disk, no audit, no metrics, no limits. It is no product.
//
//	GET or POST /bare        a constant answer of 300 bytes: the limit of the HTTP library
//	POST /oauth2/token       form, client lookup, secret, then a JWT or an opaque token
//	POST /oauth2/introspect  form, client lookup, secret, token hash, one map lookup
//
// It prints a ready line such as the node's, with a client of its own making. With
// -sign it serves nothing: it makes signatures for a while and prints what one took.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ceiling: "+err.Error())
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	alg := flag.String("alg", "ES256", "signature: "+algorithms)
	format := flag.String("format", "jwt", "of tokens: jwt or opaque")
	clients := flag.Int("clients", 100_000, "how many there are")
	sign := flag.Bool("sign", false, "make signatures for a while, print the CPU time of one, and end")
	long := flag.Duration("for", time.Second, "how long -sign takes")
	flag.Parse()
	signer, err := newSigner(*alg)
	if err != nil {
		return err
	}
	if *sign {
		return measure(signer, *long)
	}
	s, err := newServer(signer, *format == "opaque", *clients)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	ready, err := json.Marshal(map[string]string{
		"msg": "ready", "url": "http://" + ln.Addr().String(), "api_addr": ln.Addr().String(), "client_id": s.id, "client_secret": s.secret,
	})
	if err != nil {
		return err
	}
	web := &fasthttp.Server{Handler: s.handle, NoDefaultServerHeader: true, NoDefaultContentType: true, CloseOnShutdown: true}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(ln) }()
	fmt.Println(string(ready))
	select {
	case <-stop:
		return web.Shutdown()
	case err := <-ended:
		return err
	}
}

// measure makes signatures and prints the CPU time of one as JSON: the process's own,
// garbage collector included.
func measure(s signer, long time.Duration) error {
	message, dst := make([]byte, 300), make([]byte, 0, 1024)
	var err error
	var begun, ended syscall.Rusage
	n := 0
	runtime.GC()
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &begun); err != nil {
		return err
	}
	for until := time.Now().Add(long); time.Now().Before(until); n++ {
		if dst, err = s.sign(dst[:0], message); err != nil {
			return err
		}
	}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ended); err != nil {
		return err
	}
	used := func(r *syscall.Rusage) int64 { return r.Utime.Nano() + r.Stime.Nano() }
	out := bufio.NewWriter(os.Stdout)
	if err := json.NewEncoder(out).Encode(map[string]any{"ops": n, "cpu_us": float64(used(&ended)-used(&begun)) / float64(n) / 1e3}); err != nil {
		return err
	}
	return out.Flush()
}
