exception Thrown of int

let rec fib n = if n < 2 then n else fib (n - 1) + fib (n - 2)

let () =
  let words = Str.split (Str.regexp " +") "the quick brown fox jumps over the lazy dog" in
  let table = Hashtbl.create 16 in
  List.iter (fun word -> Hashtbl.replace table (String.length word) word) words;
  Hashtbl.fold (fun length word all -> (length, word) :: all) table []
  |> List.sort compare
  |> List.iter (fun (length, word) -> Printf.printf "%d %s\n" length word);
  (try raise (Thrown (fib 27)) with Thrown n -> Printf.printf "thrown %d\n" n);
  let kept = List.init 100000 (fun i -> Array.make 8 i) in
  Gc.compact ();
  Printf.printf "%d\n" (List.fold_left (fun sum a -> sum + a.(7)) 0 kept)
