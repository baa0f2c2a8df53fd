package cluster

import "github.com/prometheus/client_golang/prometheus"

// metrics are this room's series. Labels are closed sets.
type metrics struct {
	commit        prometheus.Histogram
	disk          *prometheus.HistogramVec
	readRounds    prometheus.Counter
	reads         prometheus.Counter
	refusedWrites prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	buckets := prometheus.ExponentialBuckets(0.0001, 2, 18) // 0.1 ms to 13 s
	m := &metrics{
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keyraft_raft_commit_seconds", Help: "From handing an entry to raft until it was applied at the leader.", Buckets: buckets}),
		disk: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyraft_log_store_seconds", Help: "Time of the log store's operations; store_logs holds the syncs.", Buckets: buckets}, []string{"op"}),
		readRounds: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyraft_read_index_rounds_total", Help: "Rounds of the voters for linearizable reads."}),
		reads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyraft_read_index_requests_total", Help: "Reads that those rounds served."}),
		refusedWrites: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyraft_writes_given_up_total", Help: "Proposals that found no leader, or no certain outcome, in time."}),
	}
	if r != nil {
		r.MustRegister(m.commit, m.disk, m.readRounds, m.reads, m.refusedWrites)
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
	for _, g := range c.gauges() {
		c.descs[g.name] = prometheus.NewDesc(g.name, g.help, nil, nil)
	}
	return c
}

type gauge struct {
	name, help string
	value      float64
}

func (c *collector) gauges() []gauge {
	n := c.node
	v := n.fsm.View()
	leader := 0.0
	if n.isLeader() {
		leader = 1
	}
	ready := 0.0
	if n.Ready() == nil {
		ready = 1
	}
	stats := n.fsm.Stats()
	fresh := -1.0
	if at := n.provedAt.Load(); at != 0 {
		fresh = n.progress.since().Seconds() - float64(at)/1e9
	}
	return []gauge{
		{"keyraft_applied_index", "Raft index of the last entry that the state holds.", float64(v.Index())},
		{"keyraft_commit_index", "Raft index that is committed, as this node knows.", float64(n.raft.CommitIndex())},
		{"keyraft_event_head", "Highest seq of the event log.", float64(v.Head())},
		{"keyraft_event_floor", "Highest seq of an event that was dropped.", float64(v.Counters().Floor)},
		{"keyraft_epoch", "Epoch of the history; a restore raises it.", float64(v.Epoch())},
		{"keyraft_feature_level", "Feature level of the cluster.", float64(v.Counters().Level)},
		{"keyraft_leader", "1 at the leader.", leader},
		{"keyraft_ready", "1 when this node may serve.", ready},
		{"keyraft_proof_age_seconds", "Age of the last proof that the state is fresh; -1: none since the start.", fresh},
		{"keyraft_write_queue", "Commands that wait to be proposed.", float64(n.batcher.queue.depth() + n.forward.queue.depth())},
		{"keyraft_clock_clamped", "Entries whose stamp was cut to the allowed step.", float64(v.Counters().Clamped)},
		{"keyraft_store_disk_bytes", "Size of the state on disk.", float64(stats.DiskBytes)},
		{"keyraft_store_memtable_bytes", "Changes of the state that are not flushed yet.", float64(stats.MemTableBytes)},
		{"keyraft_store_cache_bytes", "Memory of the store's block cache.", float64(stats.CacheBytes)},
		{"keyraft_store_read_amplification", "Levels that a read may have to look at.", float64(stats.ReadAmp)},
		{"keyraft_store_level0_files", "Files that wait for their first compaction.", float64(stats.Level0Files)},
		{"keyraft_store_compaction_debt_bytes", "What compactions still have to move.", float64(stats.CompactionDebt)},
		{"keyraft_store_write_stalls", "Times that the store made a write wait, since the start.", float64(stats.WriteStalls)},
		{"keyraft_store_slow_disk_operations", "Writes and syncs over a second, since the start.", float64(stats.SlowDiskOps)},
		{"keyraft_log_since_snapshot_bytes", "Log that was applied since the last snapshot.", float64(n.adapter.bytes.Load())},
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
	for _, g := range c.gauges() {
		to <- prometheus.MustNewConstMetric(c.descs[g.name], prometheus.GaugeValue, g.value)
	}
}
