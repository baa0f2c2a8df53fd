// Package proc runs the keyraft program as other processes see it: started,
// stopped, paused and killed by signals, read through its ready line, its log
// and its HTTP API. The whole-binary tests and the demo are made of it.
//
// Each process is the leader of a process group of its own, so that Ctrl-C on a
// terminal reaches only who is in charge, and so that nothing that it started
// outlives it. On Linux the kernel ends it when the program that started it ends.
//
// A Process and an API are safe for concurrent use.
package proc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Spec is what to start.
type Spec struct {
	Bin  string
	Args []string
	Env  []string // added to this process's environment
	Dir  string   // working folder; empty: this one
	// Log is the file that standard error is added to; standard output goes to the
	// same name with ".out". Its folder is made.
	Log string
}

// Process is one process that was started.
type Process struct {
	cmd   *exec.Cmd
	log   string
	ready chan Ready
	ended chan struct{}
	code  int // valid once ended is closed; -1: by a signal
}

// Build builds the keyraft program into a file, for who tests it whole.
func Build(bin string, flags ...string) error {
	args := append([]string{"build", "-buildvcs=false", "-tags=hashicorpmetrics", "-o", bin}, flags...)
	if out, err := exec.Command("go", append(args, "github.com/keyraft/keyraft/cmd/keyraft")...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return nil
}

// Ready is the ready line of a node or a gateway.
type Ready struct {
	Msg               string `json:"msg"`
	Issuer            string `json:"issuer"`
	URL               string `json:"url"`
	APIAddr           string `json:"api_addr"`
	ClusterAddr       string `json:"cluster_addr"`
	GossipAddr        string `json:"gossip_addr"`
	GatewayGossipAddr string `json:"gateway_gossip_addr"`
	OpsAddr           string `json:"ops_addr"`
	NodeID            string `json:"node_id"`
	ClusterID         string `json:"cluster_id"`
	DataDir           string `json:"data_dir"`
	AdminToken        string `json:"admin_token"`
	ClientID          string `json:"client_id"`
	ClientSecret      string `json:"client_secret"`
	GatewayCredential string `json:"gateway_credential"`
	GossipKey         string `json:"gossip_key"`
	Listen            string `json:"listen"` // of a gateway

	Line string `json:"-"` // the line itself
}

// String names the process without its credentials.
func (r Ready) String() string { return r.NodeID + " at " + r.URL + r.Listen }

// Start starts a process. Whoever starts one waits for its end: Kill, or Wait.
func Start(s Spec) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(s.Log), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of %s: %w", s.Log, err)
	}
	logFile, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = logFile.Close() }() // the child has its own
	out, err := os.OpenFile(s.Log+".out", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Process{log: s.Log, ready: make(chan Ready, 1), ended: make(chan struct{})}
	lines := &readyWriter{file: out, ready: p.ready}
	p.cmd = exec.Command(s.Bin, s.Args...)
	p.cmd.Dir, p.cmd.Env = s.Dir, append(os.Environ(), s.Env...)
	p.cmd.Stdout, p.cmd.Stderr = lines, logFile
	p.cmd.SysProcAttr = attributes()
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", s.Bin, err), out.Close())
	}
	go func() {
		_ = p.cmd.Wait() // the state tells
		p.code = p.cmd.ProcessState.ExitCode()
		_ = out.Close()
		close(p.ended)
	}()
	return p, nil
}

// readyWriter keeps standard output and looks for the ready line in it.
type readyWriter struct {
	file  *os.File
	ready chan<- Ready
	mu    sync.Mutex
	rest  []byte
}

func (w *readyWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, b...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			break
		}
		w.rest = rest
		r := Ready{Line: string(line)}
		if json.Unmarshal(line, &r) == nil && r.Msg == "ready" {
			select {
			case w.ready <- r:
			default:
			}
		}
	}
	return w.file.Write(b)
}

// Ready waits for the ready line. It is given once.
func (p *Process) Ready(ctx context.Context) (Ready, error) {
	select {
	case r := <-p.ready:
		return r, nil
	case <-p.ended:
		return Ready{}, fmt.Errorf("it ended with exit code %d before it was ready: %s", p.code, p.Tail(10))
	case <-ctx.Done():
		return Ready{}, fmt.Errorf("no ready line in time: %s", p.Tail(10))
	}
}

// Signal sends a signal to the process group.
func (p *Process) Signal(s syscall.Signal) error {
	select {
	case <-p.ended:
		return os.ErrProcessDone
	default:
		return syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// Kill ends the process as a power cut would, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL) // gone already, else it works
	<-p.ended
}

// Terminate asks the process to stop, and kills it when it has not within the
// bound. It returns the exit code, -1 when it had to be killed.
func (p *Process) Terminate(bound time.Duration) int {
	_ = p.Signal(syscall.SIGTERM)
	code, err := p.Wait(bound)
	if err != nil {
		p.Kill()
		return -1
	}
	return code
}

// Wait waits for the end and returns the exit code, -1 for an end by a signal.
func (p *Process) Wait(bound time.Duration) (int, error) {
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-p.ended:
		return p.code, nil
	case <-timer.C:
		return 0, fmt.Errorf("it still runs after %s: %s", bound, p.Tail(5))
	}
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is everything on standard error so far, of earlier processes with the same
// log file too.
func (p *Process) Log() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Tail is the end of the log: so many lines.
func (p *Process) Tail(lines int) string {
	text := bytes.TrimSpace([]byte(p.Log()))
	at := len(text)
	for range lines {
		if at = bytes.LastIndexByte(text[:at], '\n'); at < 0 {
			return string(text)
		}
	}
	return string(text[at+1:])
}

// Titled is the end of the log under a title.
func (p *Process) Titled(name string) string {
	return fmt.Sprintf("--- end of the log of %s\n%s\n", name, p.Tail(15))
}
