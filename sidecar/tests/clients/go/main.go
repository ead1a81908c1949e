// go-redis against Warp. Usage: smoke PORT STORAGE
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	port, storage := os.Args[1], os.Args[2]
	for _, protocol := range []int{2, 3} {
		client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + port, Protocol: protocol})
		everyday(client)
		transactions(client)
		channels(client)
		if storage != "postgres" {
			scripts(client)
		}
		if storage == "redis" {
			ofRedis(client)
		}
		check(client.Close())
	}
	fmt.Println("ok")
}

func everyday(client *redis.Client) {
	ctx := context.Background()
	check(client.FlushAll(ctx).Err())
	check(client.Set(ctx, "k", "v", 100*time.Second).Err())
	expect("v", must(client.Get(ctx, "k").Result()))
	if left := must(client.TTL(ctx, "k").Result()); left < 90*time.Second {
		log.Fatalf("TTL %v", left)
	}
	expect(false, must(client.SetNX(ctx, "k", "w", 0).Result()))
	expect("v", must(client.GetEx(ctx, "k", time.Minute).Result()))
	if err := client.Get(ctx, "nothing").Err(); !errors.Is(err, redis.Nil) {
		log.Fatalf("GET of nothing: %v", err)
	}
	expect(int64(1), must(client.Incr(ctx, "n").Result()))
	expect(int64(2), must(client.Exists(ctx, "k", "n").Result()))

	commands := must(client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for n := range 1000 {
			pipe.Set(ctx, "p:"+strconv.Itoa(n), n, 0)
			pipe.Get(ctx, "p:"+strconv.Itoa(n))
		}
		return nil
	}))
	for n := range 1000 {
		expect(strconv.Itoa(n), commands[2*n+1].(*redis.StringCmd).Val())
	}

	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() {
			key := "c:" + strconv.Itoa(n)
			check(client.Set(ctx, key, n, 0).Err())
			expect(strconv.Itoa(n), must(client.Get(ctx, key).Result()))
		})
	}
	all.Wait()

	found := map[string]bool{}
	for keys := client.Scan(ctx, 0, "p:*", 100).Iterator(); keys.Next(ctx); {
		found[keys.Val()] = true
	}
	expect(1000, len(found))
	err := client.Do(ctx, "NOSUCHCOMMAND").Err()
	if err == nil || !strings.HasPrefix(err.Error(), "ERR unknown command 'NOSUCHCOMMAND'") {
		log.Fatalf("an unknown command: %v", err)
	}
	expect("get", must(client.Command(ctx).Result())["get"].Name)
}

func ofRedis(client *redis.Client) {
	ctx := context.Background()
	check(client.HSet(ctx, "h", "f", "v").Err())
	expect("v", must(client.HGetAll(ctx, "h").Result())["f"])
}

func transactions(client *redis.Client) {
	ctx := context.Background()
	check(client.Watch(ctx, func(transaction *redis.Tx) error {
		_, err := transaction.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, "k", "w", 0)
			return nil
		})
		return err
	}, "k"))
	expect("w", must(client.Get(ctx, "k").Result()))
	err := client.Watch(ctx, func(transaction *redis.Tx) error {
		check(client.Set(ctx, "k", "somebody else's", 0).Err())
		_, err := transaction.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, "k", "mine", 0)
			return nil
		})
		return err
	}, "k")
	if !errors.Is(err, redis.TxFailedErr) {
		log.Fatalf("a watched key was written: %v", err)
	}
	expect("somebody else's", must(client.Get(ctx, "k").Result()))
}

func channels(client *redis.Client) {
	ctx := context.Background()
	subscriber := client.Subscribe(ctx, "channel")
	must(subscriber.Receive(ctx))
	expect(int64(1), must(client.Publish(ctx, "channel", "hello").Result()))
	expect("hello", must(subscriber.ReceiveMessage(ctx)).Payload)
	check(subscriber.Close())
}

func scripts(client *redis.Client) {
	ctx := context.Background()
	script := redis.NewScript("return redis.call('INCR', KEYS[1])")
	check(client.Set(ctx, "n", 1, 0).Err())
	expect("1", must(client.Get(ctx, "n").Result()))
	expect(2, must(script.Run(ctx, client, []string{"n"}).Int()))
	expect("2", must(client.Get(ctx, "n").Result()))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func expect[T comparable](expected, actual T) {
	if expected != actual {
		log.Panicf("expected %v, got %v", expected, actual)
	}
}
