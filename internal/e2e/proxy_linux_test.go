package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// links are TCP proxies in front of the nodes' cluster ports, one a node. Nodes
// name the proxy as their address, so whatever another node sends passes it. Who
// sends is found out through /proc, so that a link can be cut in one direction.
type links struct {
	t       *testing.T
	mu      sync.Mutex
	proxies map[string]*link // by the node behind
	nodes   func() []*node   // to find the sender
	cut     map[[2]string]bool
	wg      sync.WaitGroup
}

// link is one proxy.
type link struct {
	net    *links
	to     string // node behind it
	target string
	l      net.Listener
	conns  map[net.Conn]string // client side, with the node that dialled
}

func newLinks(w *world) *links {
	k := &links{t: w.t, proxies: map[string]*link{}, cut: map[[2]string]bool{}, nodes: func() []*node {
		w.mu.Lock()
		defer w.mu.Unlock()
		return append([]*node(nil), w.nodes...)
	}}
	w.t.Cleanup(k.close)
	return k
}

// flags puts a proxy in front of a node and returns the node's flags.
func (k *links) flags(name string) []string {
	k.t.Helper()
	target := freePort(k.t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		k.t.Fatal(err)
	}
	p := &link{net: k, to: name, target: target, l: l, conns: map[net.Conn]string{}}
	k.mu.Lock()
	k.proxies[name] = p
	k.mu.Unlock()
	k.wg.Go(p.serve)
	return []string{"--cluster-addr", target, "--cluster-advertise-addr", l.Addr().String()}
}

// isolate cuts a node off from all others, both ways; heal joins all again.
func (k *links) isolate(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for other := range k.proxies {
		if other != name {
			k.cut[[2]string{name, other}], k.cut[[2]string{other, name}] = true, true
		}
	}
	for _, p := range k.proxies {
		for conn, from := range p.conns {
			if k.cut[[2]string{from, p.to}] {
				_ = conn.Close() // the copying ends with it
			}
		}
	}
}

func (k *links) heal() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.cut)
}

func (k *links) close() {
	k.mu.Lock()
	for _, p := range k.proxies {
		_ = p.l.Close()
		for conn := range p.conns {
			_ = conn.Close()
		}
	}
	k.mu.Unlock()
	k.wg.Wait()
}

func (p *link) serve() {
	for {
		conn, err := p.l.Accept()
		if err != nil {
			return
		}
		p.net.wg.Go(func() { p.carry(conn) })
	}
}

// carry copies both ways until one side ends.
func (p *link) carry(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	from := p.net.sender(conn)
	if !p.admit(conn, from) {
		return
	}
	defer p.forget(conn)
	to, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil {
		return
	}
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{conn, to}, {to, conn}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // ends with the connection
			_ = way[0].Close()
			_ = way[1].Close()
		})
	}
	both.Wait()
}

func (p *link) admit(conn net.Conn, from string) bool {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if p.net.cut[[2]string{from, p.to}] {
		return false
	}
	p.conns[conn] = from
	return true
}

func (p *link) forget(conn net.Conn) {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	delete(p.conns, conn)
}

// sender names the node that opened a connection, by the owner of its socket.
func (k *links) sender(conn net.Conn) string {
	inode, err := socketInode(conn.RemoteAddr().(*net.TCPAddr).Port, conn.LocalAddr().(*net.TCPAddr).Port)
	if err != nil {
		return ""
	}
	k.mu.Lock()
	nodes := k.nodes()
	k.mu.Unlock()
	for _, n := range nodes {
		if n.proc != nil && owns(n.proc.PID(), inode) {
			return n.name
		}
	}
	return ""
}

func socketInode(local, remote int) (string, error) {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	suffix := func(port int) string { return fmt.Sprintf(":%04X", port) }
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) > 9 && strings.HasSuffix(fields[1], suffix(local)) && strings.HasSuffix(fields[2], suffix(remote)) {
			return fields[9], nil
		}
	}
	return "", fmt.Errorf("no socket from port %d to %d", local, remote)
}

func owns(pid int, inode string) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && to == "socket:["+inode+"]" {
			return true
		}
	}
	return false
}

// TestHarnessProxyFindsItsSender: a cut link means nothing if the sender were
// mistaken.
func TestHarnessProxyFindsItsSender(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := newLinks(w)
	n := w.newNode("n1", nil, k.flags("n1")...).run()
	w.take(n)
	conn := must(dial(k.proxies["n1"].l.Addr().String()))(t)
	defer func() { _ = conn.Close() }()
	inode := must(socketInode(port(conn.LocalAddr()), port(conn.RemoteAddr())))(t)
	if owns(n.proc.PID(), inode) {
		t.Error("a connection of this test counts as the node's")
	}
	own := must(socketInode(port(conn.RemoteAddr()), port(conn.LocalAddr())))(t)
	if inode == own {
		t.Error("both ends of a connection have one socket")
	}
}
