package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are this room's series. Labels are closed sets.
type metrics struct {
	commit      prometheus.Histogram
	entry       prometheus.Histogram
	disk        *prometheus.HistogramVec
	readRounds  prometheus.Counter
	reads       prometheus.Counter
	givenUp     *prometheus.CounterVec
	jobFailures *prometheus.CounterVec
	backups     *prometheus.CounterVec
}

// Values of labels.
const (
	outcomeNotDone = "not_done"
	outcomeUnknown = "unknown"
	resultOK       = "ok"
	resultFailed   = "failed"
)

func newMetrics(r prometheus.Registerer) *metrics {
	buckets := prometheus.ExponentialBuckets(0.0001, 2, 18) // 0.1 ms to 13 s
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	by := func(label, name, help string, values ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		for _, v := range values {
			c.WithLabelValues(v) // the series is there from the start
		}
		return c
	}
	m := &metrics{
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keyraft_raft_commit_seconds", Help: "From handing an entry to raft until it was applied at the leader.", Buckets: buckets}),
		entry: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keyraft_raft_entry_commands", Help: "Commands in one entry that this leader proposed.", Buckets: prometheus.ExponentialBuckets(1, 2, 11)}),
		disk: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyraft_log_store_seconds", Help: "Time of the log store's operations; store_logs holds the syncs.", Buckets: buckets}, []string{"op"}),
		readRounds: counter("keyraft_read_index_rounds_total", "Rounds of the voters for linearizable reads."),
		reads:      counter("keyraft_read_index_requests_total", "Reads that those rounds served."),
		givenUp: by("outcome", "keyraft_writes_given_up_total", "Writes that ended at their time limit: not_done, they found no leader or no place; unknown, they may still be committed.",
			outcomeNotDone, outcomeUnknown),
		jobFailures: by("task", "keyraft_leader_job_failures_total", "Runs of the jobs of the leader that failed, by job."),
		backups:     by("result", "keyraft_backups_total", "Backups that this node gave.", resultOK, resultFailed),
	}
	if r != nil {
		r.MustRegister(m.commit, m.entry, m.disk, m.readRounds, m.reads, m.givenUp, m.jobFailures, m.backups)
	}
	return m
}

// Collect is a prometheus.Collector of what is read off the node when asked.
type collector struct {
	node  *Node
	descs map[string]*prometheus.Desc
}

// Collector shows the node's indexes, queues and store as metrics.
func (n *Node) Collector() prometheus.Collector {
	c := &collector{node: n, descs: map[string]*prometheus.Desc{}}
	for _, r := range c.readings() {
		c.descs[r.name] = prometheus.NewDesc(r.name, r.help, nil, nil)
	}
	return c
}

// CertificateExpires is the end of the certificate by which the other nodes know
// this one.
func (n *Node) CertificateExpires() time.Time { return n.id.cert.Load().Leaf.NotAfter }

// reading is one number of now.
type reading struct {
	kind       prometheus.ValueType
	name, help string
	value      float64
}

func gauge[T ~int | ~int64 | ~uint64 | ~uint32 | ~float64](name, help string, value T) reading {
	return reading{prometheus.GaugeValue, name, help, float64(value)}
}

func counter(name, help string, value uint64) reading {
	return reading{prometheus.CounterValue, name, help, float64(value)}
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (c *collector) readings() []reading {
	n := c.node
	v := n.fsm.View()
	fresh := -1.0
	if at := n.provedAt.Load(); at != 0 {
		fresh = n.progress.since().Seconds() - float64(at)/1e9
	}
	votes, _ := n.Votes()
	voters, err := n.voters()
	if err != nil {
		voters = nil // raft has stopped: this node knows of none
	}
	return append([]reading{
		gauge("keyraft_applied_index", "Raft index of the last entry that the state holds.", v.Index()),
		gauge("keyraft_commit_index", "Raft index that is committed, as this node knows.", n.raft.CommitIndex()),
		gauge("keyraft_raft_term", "Raft term that this node is in; each election raises it.", n.raft.CurrentTerm()),
		gauge("keyraft_event_head", "Highest seq of the event log.", v.Head()),
		gauge("keyraft_event_floor", "Highest seq of an event that was dropped.", v.Counters().Floor),
		gauge("keyraft_epoch", "Epoch of the history; a restore raises it.", v.Epoch()),
		gauge("keyraft_feature_level", "Feature level of the cluster.", v.Counters().Level),
		gauge("keyraft_leader", "1 at the leader.", truth(n.isLeader())),
		gauge("keyraft_voter", "1 when this node counts in the quorum.", truth(votes)),
		gauge("keyraft_voters", "Voters of the cluster, as this node knows.", len(voters)),
		gauge("keyraft_ready", "1 when this node may serve.", truth(n.Ready() == nil)),
		gauge("keyraft_proof_age_seconds", "Age of the last proof that the state is fresh; -1: none since the start.", fresh),
		gauge("keyraft_write_queue", "Commands that wait to be proposed.", n.batcher.queue.depth()+n.forward.queue.depth()),
		counter("keyraft_write_queue_refusals_total", "Commands that the full queue did not take; they are tried again until their time limit.",
			n.batcher.queue.refusals.Load()+n.forward.queue.refusals.Load()),
		counter("keyraft_clock_clamped_total", "Entries of the cluster whose stamp was cut to the allowed step.", v.Counters().Clamped),
		gauge("keyraft_log_since_snapshot_bytes", "Log that was applied since the last snapshot.", n.adapter.bytes.Load()),
	}, c.store()...)
}

func (c *collector) store() []reading {
	s := c.node.fsm.Stats()
	return []reading{
		gauge("keyraft_store_disk_bytes", "Size of the state on disk.", s.DiskBytes),
		gauge("keyraft_store_memtable_bytes", "Changes of the state that are not flushed yet.", s.MemTableBytes),
		gauge("keyraft_store_cache_bytes", "Memory of the store's block cache.", s.CacheBytes),
		gauge("keyraft_store_read_amplification", "Levels that a read may have to look at.", s.ReadAmp),
		gauge("keyraft_store_level0_files", "Files that wait for their first compaction.", s.Level0Files),
		gauge("keyraft_store_compaction_debt_bytes", "What compactions still have to move.", s.CompactionDebt),
		counter("keyraft_store_write_stalls_total", "Times that the store made a write wait.", s.WriteStalls),
		counter("keyraft_store_slow_disk_operations_total", "Writes and syncs of the state over a second.", s.SlowDiskOps),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	for _, r := range c.readings() {
		to <- prometheus.MustNewConstMetric(c.descs[r.name], r.kind, r.value)
	}
}
