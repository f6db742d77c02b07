import java.util.*;
import java.util.stream.*;

public class Hot {
    interface Shape { double area(); }
    record Square(double side) implements Shape { public double area() { return side * side; } }
    record Circle(double radius) implements Shape { public double area() { return 3 * radius * radius; } }

    static int mix(int a, int b) { return a * 31 + (b ^ a >>> 3); }

    public static void main(String[] arguments) throws Exception {
        int sum = 0;
        for (int i = 0; i < 50_000_000; i++) sum = mix(sum, i);
        System.out.println(sum);
        Shape[] shapes = new Shape[1000];
        for (int i = 0; i < shapes.length; i++) shapes[i] = i % 3 == 0 ? new Circle(i) : new Square(i);
        double area = 0;
        for (int round = 0; round < 2000; round++) for (Shape shape : shapes) area += shape.area();
        System.out.println(area);
        // A null pointer here is a SIGSEGV that the runtime turns into an exception.
        int caught = 0;
        String[] names = new String[100];
        for (int i = 0; i < 100_000; i++) try { caught += names[i % 100].length(); } catch (NullPointerException e) { caught++; }
        System.out.println(caught);
        System.out.println(IntStream.range(0, 100_000).parallel().filter(i -> i % 7 == 0).sum());
        List<byte[]> garbage = new ArrayList<>();
        for (int i = 0; i < 20_000; i++) { garbage.add(new byte[4096]); if (i % 100 == 0) garbage.clear(); }
        Thread[] threads = new Thread[8];
        int[] results = new int[8];
        for (int t = 0; t < 8; t++) { int n = t; threads[t] = new Thread(() -> { for (int i = 0; i < 1_000_000; i++) results[n] = mix(results[n], i); }); threads[t].start(); }
        for (Thread thread : threads) thread.join();
        System.out.println(Arrays.toString(results));
    }
}
