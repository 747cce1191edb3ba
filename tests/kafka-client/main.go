// A client of Kafka for the end-to-end test: it waits at a gate, produces numbered messages of one
// batch each with several requests under way, consumes them all, and says at its end how many requests
// its connections sent, as franz-go's hooks tell.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What was sent, by the key of what is asked.
type sent struct {
	sync.Mutex
	byKey map[int16]int
}

func (s *sent) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, bytes int, _, _ time.Duration, _ error) {
	s.Lock()
	defer s.Unlock()
	if bytes > 0 {
		s.byKey[key]++
	}
}

func main() {
	broker := flag.String("broker", "127.0.0.1:9092", "address of the broker")
	gate := flag.String("gate", "", "file to wait for")
	topic := flag.String("topic", "orders", "topic to produce to, which the broker makes")
	count := flag.Int("count", 1000, "messages")
	size := flag.Int("size", 400, "bytes of each, 320 at least")
	underWay := flag.Int("under-way", 5, "requests to produce that are under way at once")
	confirm := flag.Bool("confirm", true, "have the broker confirm, and consume what was produced")
	flag.Parse()
	for *gate != "" {
		if _, err := os.Stat(*gate); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}

	requests := &sent{byKey: map[int16]int{}}
	options := []kgo.Opt{
		kgo.SeedBrokers(*broker),
		kgo.ClientID("numbered"),
		kgo.AllowAutoTopicCreation(),
		kgo.DefaultProduceTopic(*topic),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		// One message a batch.
		kgo.ProducerBatchMaxBytes(int32(*size + 200)),
		kgo.DisableIdempotentWrite(),
		kgo.MaxProduceRequestsInflightPerBroker(*underWay),
		kgo.WithHooks(requests),
	}
	if !*confirm {
		options = append(options, kgo.RequiredAcks(kgo.NoAck()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	var failed, got int
	var mutex sync.Mutex
	value := make([]byte, *size)
	for number := range *count {
		record := &kgo.Record{Key: fmt.Appendf(nil, "%d", number), Value: value}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				mutex.Lock()
				failed++
				mutex.Unlock()
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	if *confirm {
		client.AddConsumeTopics(*topic)
		for got < *count && ctx.Err() == nil {
			got += client.PollFetches(ctx).NumRecords()
		}
	}
	client.Close()
	if !*confirm {
		// What the kernel still has to send goes on after the process, which its namespace's probes do not survive.
		time.Sleep(3 * time.Second)
	}

	requests.Lock()
	all := 0
	for _, count := range requests.byKey {
		all += count
	}
	told := map[string]int{
		"sent": all, "produce": requests.byKey[0], "fetch": requests.byKey[1],
		"metadata": requests.byKey[3], "failed": failed, "got": got,
	}
	line, _ := json.Marshal(told)
	fmt.Println(string(line))
}
